"""The checkpoint store: immutable content under the name of its digest, and manifests that make it a checkpoint."""
