"""AES, GHASH: what the tensor encryption core and the key generator are built of; no policy."""
