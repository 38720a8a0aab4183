import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { attach, savePretrained } from '@peftjs/core';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { peftBench } from './in-process.js';
import { counting, writeDecoder } from './decoder.js';

const folder = temporaryFolder();
const file = (name: string): string => (name === 'bert' ? bertFolder : join(folder, name));

/** Files, by name. */
const FILES: Readonly<Record<string, string>> = {
  'notes.txt': counting(40).join('\n'),
  'short.txt': 'so short',
  'empty.txt': ' \n',
  'empty.jsonl': '\n',
  'texts.jsonl': counting(30).map((text) => JSON.stringify({ text })).join('\n'), // oxfmt-ignore
  'no-answer.jsonl': '{"prompt": "1 + 1 =", "completion": " 2"}\n{"prompt": "1 + 2 =", "completion": ""}',
  'no-completion.jsonl': '{"prompt": "1 + 1 ="}',
  'no-assistant.jsonl': '{"messages": [{"role": "user", "content": "hi"}]}',
  'long-prompt.jsonl': JSON.stringify({ prompt: 'a'.repeat(90), completion: 'b' }),
  'other-fields.jsonl': '{"instruction": "add", "output": "3"}',
  'labels.tsv': 'text\tlabel\nso good\t1\nso bad\t0\nfine\t1\nno\t0\n',
  'data/notes/train.txt': counting(30).join('\n'),
  'data/notes/dev.txt': counting(9).join('\n'),
  'data/mood/train.tsv': 'text\tlabel\nso good\t1\nso bad\t0\n',
  'data/mood/dev.tsv': 'text\tlabel\nfine\t1\n',
};

beforeAll(async () => {
  for (const [name, content] of Object.entries(FILES)) {
    await mkdir(join(file(name), '..'), { recursive: true });
    await writeFile(file(name), content);
  }
  await writeDecoder(file('gpt2'), 'gpt2');
  await writeDecoder(file('endless'), 'gpt2', { eos_token_id: null, bos_token_id: null, pad_token_id: null });
  const model = await fromPretrained(file('gpt2'), { task: 'causal-lm' });
  await savePretrained(attach(model, lora({ r: 2 })), file('adapter'));
});

/** Arguments with file names in angle brackets, and a pattern for the one line that must be printed. */
const cases: [string, string, RegExp][] = [
  [
    'texts for an encoder',
    'run --model <bert> --train <notes.txt> --dev <notes.txt> --out <out>',
    /'notes' needs a language model, and .*bert-tiny is not one \(.*'causal-lm'.*\); give a decoder with --model, or files with labels/,
  ],
  ['texts without a model', 'run --train <notes.txt> --dev <notes.txt> --out <out>', /give a decoder with --model/],
  [
    'an empty text',
    'run --model <gpt2> --train <empty.txt> --dev <notes.txt> --out <out>',
    /empty\.txt: .*an empty file/,
  ],
  [
    'an empty file of rows',
    'run --model <gpt2> --train <empty.jsonl> --dev <empty.jsonl> --out <out>',
    /empty\.jsonl: .*empty/,
  ],
  [
    'too little text',
    'run --model <gpt2> --train <short.txt> --dev <notes.txt> --out <out>',
    /^peft-bench: short\/train: .* aside, got 1, too few/,
  ],
  [
    'an instruction without an answer',
    'run --model <gpt2> --train <no-answer.jsonl> --dev <no-answer.jsonl> --out <out>',
    /no-answer\.jsonl:2: the row has no completion; fill it in or remove the row/,
  ],
  [
    'an instruction with a missing field',
    'train --model <gpt2> --method lora --train <no-completion.jsonl> --dev <no-completion.jsonl> --out <out>',
    /no-completion\.jsonl:1: expected "completion" to be a string, got nothing/,
  ],
  [
    'a conversation with nothing to learn',
    'run --model <gpt2> --train <no-assistant.jsonl> --dev <no-assistant.jsonl> --out <out>',
    /no-assistant\.jsonl:1: .*"assistant"/,
  ],
  [
    'prompts that leave no room for completions',
    'run --model <gpt2> --train <long-prompt.jsonl> --dev <texts.jsonl> --out <out>',
    /long-prompt\/train: expected tokens to learn, got none within 48 tokens/,
  ],
  [
    'fields of neither form',
    'run --model <gpt2> --train <other-fields.jsonl> --dev <texts.jsonl> --out <out>',
    /other-fields\.jsonl:1: expected "text" and "label", or .*"instruction", "output"/,
  ],
  [
    'a text file with a table',
    'run --model <gpt2> --train <notes.txt> --dev <labels.tsv> --out <out>',
    /notes\.txt is for a language model and labels\.tsv is a table with labels/,
  ],
  [
    'a table with a text file',
    'run --model <gpt2> --train <labels.tsv> --dev <texts.jsonl> --out <out>',
    /texts\.jsonl is for a language model and labels\.tsv is a table/,
  ],
  ['a missing text', 'run --model <gpt2> --train <none.txt> --dev <notes.txt> --out <out>', /none\.txt/],
  [
    'missing rows',
    'run --model <gpt2> --train <none.jsonl> --dev <texts.jsonl> --out <out>',
    /no such file or folder: --train .*none\.jsonl/,
  ],
  [
    'tasks of both language models and encoders',
    'run --model <gpt2> --data <data> --task notes,mood --out <out>',
    /'notes' is for a language model and 'mood' has labels; run them separately/,
  ],
  [
    'a size that is chosen by a standard error',
    'run --model <gpt2> --method sora --budget auto --train <notes.txt> --dev <notes.txt> --out <out>',
    /--budget auto: the scores of 'notes', .* have no standard error .*; give a margin, such as --budget auto:0\.5$/,
  ],
  [
    '--document-end for a table',
    'run --train <labels.tsv> --dev <labels.tsv> --document-end line --out <out>',
    /--document-end applies to \.txt files for a language model; 'labels' is for classification/,
  ],
  [
    '--document-end for an embedded task',
    'run --task uci-sentiment --document-end line --out <out>',
    /--document-end applies to your own \.txt files/,
  ],
  [
    '--document-end for JSON rows',
    'run --model <gpt2> --train <texts.jsonl> --dev <texts.jsonl> --document-end line --out <out>',
    /--document-end applies to \.txt files; every line of texts\.jsonl is already a document/,
  ],
  [
    'an unknown document end',
    'run --model <gpt2> --train <notes.txt> --dev <notes.txt> --document-end page --out <out>',
    /Allowed choices are file, paragraph, line/,
  ],
  [
    'rows of one token',
    'run --model <gpt2> --train <notes.txt> --dev <notes.txt> --max-tokens 1 --out <out>',
    /maxTokens to be at least 2/,
  ],
  [
    'a half-dev split of a language task',
    'run --model <gpt2> --data <data> --task notes --split half-dev --out <out>',
    /half-dev/,
  ],
  [
    'a model without an end-of-text token',
    'run --model <endless> --train <notes.txt> --dev <notes.txt> --out <out>',
    /expected a tokenizer with an end-of-text token, got one without; name its eos_token/,
  ],
  [
    'a frozen head',
    'train --model <gpt2> --method head --train <notes.txt> --dev <notes.txt> --out <out>',
    /head trains nothing of .*gpt2, because its head is frozen/,
  ],
  [
    'labels for a language model',
    'export <adapter> --format merged --labels a,b --out <out>',
    /a causal language model has no class labels/,
  ],
];

describe('peft-bench exits with 2 and prints one clear line for', () => {
  it.each(cases)('%s', async (_, line, message) => {
    const args = line.split(' ').map((word) => word.replace(/^<(.*)>$/, (_match, name: string) => file(name)));
    const { code, stdout, stderr } = await peftBench(args);
    const isProgress = (text: string): boolean => /: loading |^(data|leaked): |^trial \d|^✓|^all trials/.test(text);
    const lines = stderr
      .trim()
      .split('\n')
      .filter((text) => !isProgress(text));
    expect(lines).toEqual([expect.stringMatching(message)]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(await readdir(folder)).not.toContain('out');
  });
});
