mod replica;
