from transformer.commands.entry import translate

if __name__ == "__main__":
    translate()
