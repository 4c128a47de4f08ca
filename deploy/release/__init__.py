"""A release: wheels and source distributions, the locked requirements, their bill of materials, licences, checksums."""
