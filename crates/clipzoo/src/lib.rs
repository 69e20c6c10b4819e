//! Train, evaluate and run CLIP models for e-commerce: the facade and the command.
