"""Genes that several encoders of the past have."""

from evorec.space.genes import Real

ENCODER_DROPOUT = Real(
    "encoder_dropout", 0.0, 0.6, default=0.3, limits=(0.0, 0.95), text="dropout rate inside the encoder of the past"
)
