"""The gRPC API: servicers that read and write the store, and the errors as users see them. It decides nothing."""
