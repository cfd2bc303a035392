"""Testing a job: virtual time, harnesses, transcripts. A part of the product."""
