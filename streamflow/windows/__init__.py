"""Windows as pure logic: assigners, triggers and aggregates; time goes in, decisions come out."""
