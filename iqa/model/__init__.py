"""The model: a timm backbone, a fusion of its maps, and the heads of HyperIQA."""
