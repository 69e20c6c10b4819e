//! The ModelZoo: one backbone a file; opens and saves a model.
