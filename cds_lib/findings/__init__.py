"""What single notebooks, the summary and the README say of the results beyond the table that every one has: controls,
other images, answers to their questions, and the plots that go with them. Nothing here trains."""
