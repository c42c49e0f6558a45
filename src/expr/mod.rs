//! CEL: compiled once with source spans, evaluated under limits, and `${{ }}` templates.
