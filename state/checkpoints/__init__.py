"""The checkpoint store: immutable content under the name of its digest, and manifests, each of which makes a
checkpoint."""
