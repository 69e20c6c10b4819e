//! CLIP byte-pair encoding and Chinese WordPiece.
