//! Encoder contracts, layers, parameters, the zoo, and the pipeline: everything that shows a tensor.
