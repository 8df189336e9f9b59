"""Text to ids to batches: corpora, tokenizers, stores, batching, loading."""
