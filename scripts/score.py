from transformer.commands.entry import score

if __name__ == "__main__":
    score()
