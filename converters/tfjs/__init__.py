"""The TensorFlow.js writer."""
