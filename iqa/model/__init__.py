"""The model: a timm backbone, a fusion of its maps, and HyperIQA's heads."""

from iqa.model.hyperiqa import HyperIQA, describe

__all__ = ["HyperIQA", "describe"]
