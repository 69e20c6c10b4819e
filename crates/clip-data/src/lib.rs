//! Pairs from tables and folders; pictures as the model sees them; features in and out.
