from transformer.commands.entry import evaluate

if __name__ == "__main__":
    evaluate()
