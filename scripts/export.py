from transformer.commands.entry import export

if __name__ == "__main__":
    export()
