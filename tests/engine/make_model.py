"""Make a tiny Llama with random weights, a word tokenizer and a chat template: `python make_model.py DIRECTORY`."""

import sys

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# The engine finds out how a stop string is spelt by putting "abcdef" before each token, so that must be a word.
NEVER_SAID = ("<unk>", "<end>", "abcdef")
WORDS = """
    the a of and to in is it for on as with at by from or an be this that one two three who wins final team game early
    late strong calm plan point first then last why because gold dragon tower lane trade KT T1 S15
    冠军 决赛 谁 更 可能 获得 优势 队伍 比赛 经验 节奏 团战 第一 第二 第三
"""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)


def main(directory: str) -> None:
    """Write a model whose answers end at `max_tokens` or a stop string only, one word for each token."""
    vocabulary = {word: number for number, word in enumerate([*NEVER_SAID, *WORDS.split()])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="<end>", pad_token="<end>", chat_template=CHAT_TEMPLATE
    ).save_pretrained(directory)

    end = vocabulary["<end>"]
    torch.manual_seed(15)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=4096,
            initializer_range=0.5,  # wide enough for answers that depend on the prompt
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    model.generation_config = GenerationConfig(
        do_sample=True,
        eos_token_id=end,
        pad_token_id=end,
        suppress_tokens=[vocabulary[word] for word in NEVER_SAID],
    )
    model.save_pretrained(directory)


if __name__ == "__main__":
    main(sys.argv[1])
