"""Generated from proto/scaler/pb by `make proto`; never edited by hand."""
