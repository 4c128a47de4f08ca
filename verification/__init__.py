"""Programs that pass or fail: acceptance, conformance, platform, isolation and the upload fuzzer."""
