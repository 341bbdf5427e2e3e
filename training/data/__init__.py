"""What a model learns from: samples, their order, pictures, texts, batches."""
