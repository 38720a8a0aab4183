import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { writeDecoder } from './decoder.js';
import { peftBench } from './in-process.js';

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  await writeFile(at('talk.jsonl'), talk(20));
  await writeFile(at('talk-dev.jsonl'), talk(5));
});

function talk(rows: number): string {
  const messages = (row: number): object[] => [
    { role: 'user', content: `${row}?` },
    { role: 'assistant', content: 'a number.' },
  ];
  return Array.from({ length: rows }, (_, row) => JSON.stringify({ messages: messages(row) })).join('\n');
}

/** Evaluates an untrained model; returns the name of the trial and the messages about templates. */
async function trial(name: string, template?: string): Promise<{ id: string; said: string[] }> {
  await writeDecoder(at(name), 'gpt2');
  const tokenizer = JSON.parse(await readFile(at(`${name}/tokenizer.json`), 'utf8')) as { added_tokens: object[] };
  const marks = ['<|im_start|>', '<|im_end|>'].map((content, index) => ({ id: 77 + index, content, special: true }));
  tokenizer.added_tokens.push(...marks);
  await writeFile(at(`${name}/tokenizer.json`), JSON.stringify(tokenizer));
  const settings = { model_max_length: 48, ...(template !== undefined && { chat_template: template }) };
  await writeFile(at(`${name}/tokenizer_config.json`), JSON.stringify(settings));
  const files = ['--train', at('talk.jsonl'), '--dev', at('talk-dev.jsonl'), '--out', at(`out-${name}`)];
  const { code, stdout, stderr } = await peftBench(
    ['run', '--json', '--model', name, '--method', 'head', '--seeds', '2', ...files],
    { cwd: folder },
  );
  expect(code, stderr).toBe(0);
  const { id } = JSON.parse(stdout.split('\n')[0] ?? '') as { readonly id: string };
  return { id, said: stderr.split('\n').filter((line) => line.includes('chat template')) };
}

const SHORT = `{% for m in messages %}{{ m.role[0] ~ ':' ~ m.content }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}`;

it("conversations are written by the model's template, and another template makes another trial", async () => {
  const one = await trial('one', SHORT);
  expect(one.said).toEqual([]);
  await rm(at('out-one'), { recursive: true });
  const other = await trial('one', SHORT.replaceAll(':', '='));
  expect(other.id).not.toBe(one.id);
});

it('conversations for a model without a template are written as ChatML, with one message', async () => {
  const { said } = await trial('none');
  expect(said).toEqual(['peft-bench: talk: the model has no chat template, so conversations are written as ChatML']);
});
