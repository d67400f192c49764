"""Event-driven, state-aware orchestration for dbt: build what changed, reuse the rest, and say why."""

__version__ = "0.1.0"
