import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { subjectOf, taskOfAdapter } from './subject.js';

const folder = await mkdtemp(join(tmpdir(), 'peftjs-subject-'));
beforeAll(async () => {
  for (const name of ['Qwen2ForCausalLM', 'BertForTokenClassification', 'BertModel']) {
    await mkdir(join(folder, name));
    await writeFile(join(folder, name, 'config.json'), JSON.stringify({ architectures: [name] }));
  }
});
afterAll(() => rm(folder, { recursive: true }));

const base = (name: string) => ({ base_model_name_or_path: join(folder, name) });
const trainedOn = (name: string) => ({ task_type: null, auto_mapping: { base_model_class: name } });

describe('the task of an adapter', () => {
  it.each([
    ['its task_type', 'causal-lm', { task_type: 'CAUSAL_LM', ...base('BertForTokenClassification') }],
    ['the class that PEFT writes without one', 'causal-lm', trainedOn('GPT2LMHeadModel')],
    [
      'the same, before the head of its base model',
      'feature-extraction',
      { ...trainedOn('BertModel'), ...base('Qwen2ForCausalLM') },
    ],
    ['a base model that writes', 'causal-lm', base('Qwen2ForCausalLM')],
    ['a base model that labels words', 'token-classification', base('BertForTokenClassification')],
    ['nothing of its base model', 'sequence-classification', base('BertModel')],
    ['nothing, where its base model is not there', 'sequence-classification', base('none')],
  ])('is that of %s: %s', async (_, task, config) => {
    expect(await taskOfAdapter(config, 'adapter')).toBe(task);
  });

  it.each([
    [{ task_type: 'SEQ_2_SEQ_LM' }, /^adapter: its task_type is "SEQ_2_SEQ_LM"; expected .* causal-lm, /],
    [trainedOn('BertForQuestionAnswering'), /^adapter: its model is a BertForQuestionAnswering; expected /],
  ])('is refused if peftjs does not have it: %j', async (config, message) => {
    await expect(taskOfAdapter(config, 'adapter')).rejects.toThrow(message);
  });
});

it('a folder with neither an adapter nor a model is said to be one', async () => {
  await expect(subjectOf(folder, {})).rejects.toThrow(
    `${folder} has neither adapter_config.json (an adapter) nor config.json (a model); if it is a model, give its task`,
  );
});
