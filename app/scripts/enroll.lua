-- Makes sure that the user exists.
-- given: address, seconds
enroll(given.address, given.seconds)
return unchanged('enrolled')
