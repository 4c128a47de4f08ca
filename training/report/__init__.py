"""Reports of runs: a folder is read, figures are drawn, one HTML page is written. Needs no backbone."""
