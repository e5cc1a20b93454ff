"""Smaller ONNX files: static int8 as QuantizeLinear/DequantizeLinear pairs, int8 weights, float16."""
