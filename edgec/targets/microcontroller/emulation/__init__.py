"""Generated code compiled, run on emulated cores, and held against TFLite Micro."""

__all__: list[str] = []
