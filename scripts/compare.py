from transformer.commands.entry import compare

if __name__ == "__main__":
    compare()
