"""The objective and the training that distils a teacher into a student."""
