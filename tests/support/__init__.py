"""What tests build with, one module per room; fixtures that several rooms share are in `fixtures`."""
