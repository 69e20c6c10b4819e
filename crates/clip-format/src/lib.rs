//! What a checkpoint is: families, canonical config, weight mapping, safetensors and pickle.
