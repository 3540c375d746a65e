"""What is measured on trained models: comparisons, cost, agreement with other databases, and their insides."""
