"""Tables: a user's table as the models see it, from validation to rows in the model's units."""
