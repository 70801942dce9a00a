"""Who is calling: tokens, OpenID Connect, viewer sessions."""
