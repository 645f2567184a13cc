-- … → 1 if the job's deadline had passed and the job was ended, else 0
return expire() and 1 or 0
