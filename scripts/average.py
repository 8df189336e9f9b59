from transformer.commands.entry import average

if __name__ == "__main__":
    average()
