"""The Open Inference Protocol over gRPC, with Triton's extensions for repositories and statistics."""
