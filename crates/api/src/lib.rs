//! Resource kinds, validation and agent-API types.
