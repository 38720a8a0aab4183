import { memoryStorage } from '@peftjs/core';
import { DataError } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import { isLanguageFile, languageSet, readLanguageSet, readLanguageTask, type DocumentEnd } from '@peftjs/tasks';
import { bytesOf, expectDataError } from './files.js';

const read = (text: string, path = 'a.jsonl', documentEnd?: DocumentEnd) =>
  readLanguageSet(bytesOf(text), { path, documentEnd });
const lines = (...objects: unknown[]) => objects.map((object) => JSON.stringify(object)).join('\n');
const messages = [
  { role: 'system', content: 'Be short.' },
  { role: 'user', content: 'Capital of Peru?' },
  { role: 'assistant', content: 'Lima.' },
];

describe('text files', () => {
  const text = 'One.\nTwo.\n\n  Three.\n \nFour.\n';

  it.each<[DocumentEnd | undefined, string[]]>([
    [undefined, [text]],
    ['file', [text]],
    ['paragraph', ['One.\nTwo.', '  Three.', 'Four.\n']],
    ['line', ['One.', 'Two.', '  Three.', 'Four.']],
  ])('are split into documents at the end of each %s', async (end, documents) => {
    expect((await read(text, 'book.TXT', end)).rows).toEqual(documents.map((document) => ({ text: document })));
  });

  it('may have Windows line ends', async () => {
    expect((await read('\ufeffa\r\nb\r\n', 'a.txt')).rows).toEqual([{ text: 'a\nb\n' }]);
  });
});

describe('JSON lines', () => {
  it('may have texts', async () => {
    const { name, rows } = await read(lines({ text: ' a ', id: 1 }, { text: 'b' }), 'data/stories.jsonl');
    expect([name, rows]).toEqual(['stories', [{ text: ' a ' }, { text: 'b' }]]);
  });

  it('may have prompts with completions, and the prompt may be empty', async () => {
    const rows = [
      { prompt: 'Q: 1+1\nA:', completion: ' 2' },
      { prompt: '', completion: 'x' },
    ];
    expect((await read(lines(...rows))).rows).toEqual(rows);
  });

  it('may have conversations', async () => {
    expect((await read(lines({ messages, source: 'x' }))).rows).toEqual([{ messages }]);
  });

  it('may have conversations with tools, whose fields are all kept', async () => {
    const tools = [{ type: 'function', function: { name: 'f', parameters: { type: 'object' } } }];
    const call = { id: 'c1', type: 'function', function: { name: 'f', arguments: { a: 1 } } };
    const calling = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: null, tool_calls: [call], thinking: 'hm' },
      { role: 'tool', tool_call_id: 'c1', name: 'f', content: 'b' },
    ];
    const set = await read(lines({ messages: calling, tools, source: 'x' }));
    expect(set.rows).toEqual([{ messages: calling, tools }]);
    expect((await read(lines({ messages: calling }))).fingerprint).not.toBe(set.fingerprint);
    expect((await read(lines({ messages, tools: null }))).rows).toEqual([{ messages }]);
  });

  it('have the same fingerprint for the same content', async () => {
    const texts = await read(lines({ text: 'a' }, { text: 'b' }));
    expect(texts.fingerprint).toMatch(/^[0-9a-f]{64}$/);
    expect((await read('a\nb', 'other.txt', 'line')).fingerprint).toBe(texts.fingerprint);
    expect((await languageSet('made', texts.rows)).fingerprint).toBe(texts.fingerprint);
    const others = [lines({ text: 'b' }, { text: 'a' }), lines({ prompt: 'a', completion: 'b' }), lines({ text: 'a' })];
    for (const other of others) expect((await read(other)).fingerprint).not.toBe(texts.fingerprint);
  });

  it.each([
    ['an empty file', '', 'empty'],
    ['invalid JSON', '{"text": "a"}\n{', 'a.jsonl:2', 'not JSON'],
    ['no JSON object', '["a"]', 'a.jsonl:1', 'JSON object'],
    ['other fields', lines({ instruction: 'a', output: 'b' }), 'a.jsonl:1', '"messages"', '"instruction", "output"'],
    ['no fields', '{}', 'a.jsonl:1', 'an empty object'],
    ['rows of another form', lines({ text: 'a' }, { prompt: 'a', completion: 'b' }), 'a.jsonl:2', '"text"', 'nothing'],
    ['a text of blanks', lines({ text: ' ' }), 'a.jsonl:1', 'no text'],
    ['a text that is a number', lines({ text: 5 }), 'a.jsonl:1', 'a string', '5'],
    ['an empty completion', lines({ prompt: 'a', completion: '' }), 'a.jsonl:1', 'no completion'],
    ['no completion', lines({ prompt: 'a' }), 'a.jsonl:1', '"completion"', 'nothing'],
    ['no prompt', lines({ completion: 'a' }), 'a.jsonl:1', '"prompt"', 'nothing'],
    ['messages that are not a list', lines({ messages: 'hi' }), 'a.jsonl:1', 'a list of messages', 'hi'],
    ['no messages', lines({ messages: [] }), 'a.jsonl:1', 'a list of messages'],
    ['an unknown role', lines({ messages: [{ role: 'human', content: 'a' }] }), 'a.jsonl:1', 'assistant', 'human'],
    ['content in parts', lines({ messages: [{ role: 'user', content: [{ text: 'a' }] }] }), 'a.jsonl:1', 'a string'],
    ['tools that are no list', lines({ messages }, { messages, tools: {} }), 'a.jsonl:2', "'tools' to be a list"],
    [
      'a tool without a name',
      lines({ messages, tools: [{ type: 'function', function: {} }] }),
      'a.jsonl:1',
      "'tools[0]'",
    ],
    [
      'tool calls that are no list',
      lines({ messages: [{ role: 'assistant', tool_calls: 'f' }] }),
      'a.jsonl:1',
      'message 1',
      "'tool_calls' to be a list",
    ],
    [
      'a call without a function',
      lines({ messages: [...messages, { role: 'assistant', tool_calls: [{}] }] }),
      'a.jsonl:1',
      'message 4',
      "'tool_calls[0]'",
    ],
    [
      'a message without content',
      lines({ messages: [...messages, { role: 'user' }] }),
      'a.jsonl:1',
      'message 4',
      "'content' to be a string",
    ],
    ['a message that is null', lines({ messages: [null] }), 'a.jsonl:1', 'null'],
    ['nothing to learn', lines({ messages: [{ role: 'user', content: 'a' }] }), 'a.jsonl:1', '"assistant"', 'none'],
    ['an inherited field', '{"__proto__": {"text": "a"}}', 'a.jsonl:1', '"__proto__"'],
    ['a very long line', lines({ text: 'a'.repeat(1_000_001) }), 'a.jsonl:1', '1000000'],
  ])('rejects %s', async (_, text, ...parts) => {
    await expectDataError(read(text), ...parts);
  });

  it('rejects options that it does not have', async () => {
    const bytes = bytesOf('a');
    await expect(readLanguageSet(bytes, {} as never)).rejects.toThrow(/'path'/);
    await expect(readLanguageSet(bytes, { path: 'a.txt', documentEnd: 'page' as never })).rejects.toThrow(
      /"paragraph"/,
    );
    await expect(readLanguageSet('a' as never, { path: 'a.txt' })).rejects.toThrow(/bytes/);
  });

  it('have one form', async () => {
    await expect(languageSet('s', [{ text: 'a' }, { prompt: 'a', completion: 'b' }] as never)).rejects.toThrow(
      'rows: expected "text", as row 1 has, got "prompt", "completion" in row 2',
    );
    await expect(languageSet('s', [{ prompt: 'a' }] as never)).rejects.toThrow(
      /^rows: expected "text", .+ got "prompt"/,
    );
  });

  it('rejects another extension', async () => {
    await expectDataError(read('a', 'a.md'), 'a.md', '.txt or .jsonl');
    await expectDataError(read(' \n', 'a.txt'), 'a.txt', 'empty');
  });
});

describe('readLanguageTask', () => {
  const files = new Map([
    ['d/train.txt', bytesOf('a b\n\nc d')],
    ['d/dev.jsonl', bytesOf('{"text":"e f"}')],
  ]);
  const storage = memoryStorage(files);

  it('reads two files', async () => {
    const paths = { train: 'd/train.txt', dev: 'd/dev.jsonl' };
    const task = await readLanguageTask({ ...paths, storage, documentEnd: 'paragraph' });
    expect(task).toMatchObject({ name: 'train', kind: 'causal-lm', dev: { name: 'dev', rows: [{ text: 'e f' }] } });
    expect(task.train.rows).toHaveLength(2);
    expect((await readLanguageTask({ ...paths, storage, name: 'notes' })).name).toBe('notes');
  });

  it('rejects a missing file', async () => {
    await expectDataError(readLanguageTask({ train: 'd/train.txt', dev: 'd/gone.txt', storage }), 'd/gone.txt');
  });
});

describe('isLanguageFile', () => {
  it.each([
    ['labels of Hugging Face', '{"text": "a", "labels": [0, 3]}'],
    ['tags', '{"text": "a b", "tokens": ["a", "b"], "ner_tags": [0, 1]}'],
    ['pairs', '{"text": "a", "question": "q", "answer": "p"}'],
    ['labels of completions', '{"prompt": "a", "completion": "b", "label": false}'],
  ])('reads %s as a table, never as texts of a language model', (_, text) => {
    expect(isLanguageFile(bytesOf(text), 'a.jsonl')).toBe(false);
  });

  it('reads lines as a table if their columns are named', () => {
    expect(isLanguageFile(bytesOf('{"text": "a", "genre": "b"}'), 'a.jsonl', { labelColumn: 'genre' })).toBe(false);
  });

  it('reads a text file as CoNLL if its words have tags', () => {
    expect(isLanguageFile(bytesOf('a O'), 'a.txt', { kind: 'token-classification' })).toBe(false);
    expect(isLanguageFile(bytesOf('a O'), 'a.txt', { kind: 'classification' })).toBe(true);
  });

  const told = (text: string, path = 'a.jsonl') => isLanguageFile(bytesOf(text), path);

  it.each([
    ['any text', 'so good\t1', 'a.TXT', true],
    ['a table', 'text\tlabel\n', 'a.tsv', false],
    ['texts', lines({ text: 'a' }, { text: 'b', label: 1 }), 'a.jsonl', true],
    ['texts with labels', lines({ text: 'a', label: 1 }), 'a.JSONL', false],
    ['pairs', lines({ text_a: 'a', text_b: 'b' }), 'a.jsonl', false],
    ['instructions', `\n \n${lines({ prompt: 'a', completion: 'b' })}`, 'a.jsonl', true],
    ['instructions without answers', lines({ prompt: 'a' }), 'a.jsonl', true],
    ['conversations', lines({ messages }), 'a.jsonl', true],
    ['conversations with their question and answer', lines({ question: 'q', answer: 'a', messages }), 'a.jsonl', true],
    [
      'preferences with their question',
      lines({ question: 'q', answer: 'a', chosen: 'a', rejected: 'b' }),
      'a.jsonl',
      true,
    ],
    ['instructions with tags', lines({ prompt: 'a', completion: 'b', tags: ['c'] }), 'a.jsonl', true],
    ['invalid JSON', 'text', 'a.jsonl', false],
    ['no JSON object', '[1]', 'a.jsonl', false],
    ['nothing', '', 'a.jsonl', false],
    ['a truncated first line', '{"text": "a', 'a.jsonl', false],
    ['a truncated second line', '{"text": "a"}\n{"te', 'a.jsonl', true],
  ])('recognises %s', (_, text, path, expected) => {
    expect(told(text, path)).toBe(expected);
  });

  it.each([
    [
      '{"instruction": "a", "output": "b"}',
      /^a\.jsonl:1: expected "text" and "label", or .*, got "instruction", "output"$/,
    ],
    ['\n{}', /^a\.jsonl:2: .* got an empty object$/],
  ])('rejects %j, which is neither', (text, message) => {
    expect(() => told(text)).toThrow(DataError);
    expect(() => told(text)).toThrow(message);
  });
});
