"""What learns. Imports classifier; is imported by nothing that serves."""
