-- → 1 if the job's time was up and it has been ended
return expire() and 1 or 0
