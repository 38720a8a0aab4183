import { CheckpointError, UnsupportedError } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { fromPretrained, generate, generateText, type PretrainedModel } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { characterDecoder } from './characters.js';

const executor = compiled({ threads: 1 });
const messages = [{ role: 'user', content: 'ab' }];
const MARKED =
  '{% for m in messages %}{{ bos_token ~ m.content }}{% endfor %}{% if add_generation_prompt %}c{% endif %}';

/** A language model with these files beside it. */
async function load(
  files: Readonly<Record<string, string>>,
  task: 'causal-lm' | 'sequence-classification' = 'causal-lm',
) {
  const storage = await characterDecoder('gpt2', 'abc');
  for (const [name, content] of Object.entries(files)) {
    await storage.write(`tiny/${name}`, new TextEncoder().encode(content));
  }
  return fromPretrained('tiny', { storage, task });
}

const settings = (chatTemplate: unknown): Record<string, string> => ({
  'tokenizer_config.json': JSON.stringify({ bos_token: { content: 'b' }, chat_template: chatTemplate }),
});
const written = ({ tokenizer: { chatTemplate } }: PretrainedModel): string | undefined =>
  chatTemplate?.render(messages, { addGenerationPrompt: true });

describe('the chat template of a folder', () => {
  it.each<[string, Readonly<Record<string, string>>, string | undefined]>([
    ['is that of tokenizer_config.json, with its special tokens', settings(MARKED), 'babc'],
    ['is the default one of several', settings([{ name: 'tool_use', template: 'x' }, { name: 'default', template: MARKED }]), 'babc'], // prettier-ignore
    ['is that of chat_template.jinja, where there is one', { ...settings('x'), 'chat_template.jinja': MARKED }, 'babc'],
    ['is none where there is none', {}, undefined],
    ['is none where it is no text', settings(7), undefined],
  ])('%s', async (_, files, text) => {
    expect(written(await load(files))).toBe(text);
  });

  it('is for language models alone', async () => {
    expect((await load(settings(MARKED), 'sequence-classification')).tokenizer.chatTemplate).toBeUndefined();
  });

  it('does not keep a model from being loaded where it is broken', async () => {
    const model = await load(settings('{% for %}'));
    expect(() => written(model)).toThrow(CheckpointError);
    expect(() => written(model)).toThrow('tiny/tokenizer_config.json: the chat template cannot be rendered');
  });

  it('is refused where its file is too large', async () => {
    await expect(load({ 'chat_template.jinja': 'a'.repeat(300_000) })).rejects.toThrow(CheckpointError);
  });
});

describe('generateText of a conversation', () => {
  it('goes on with what the template writes, and begins it by nothing else', async () => {
    const model = await load(settings(MARKED));
    const options = { maxNewTokens: 5, eosTokenId: [] };
    const [after] = await generate(model, [model.tokenizer.tokenIds('babc')], { executor, ...options });
    expect(await generateText(model, messages, { executor, ...options })).toBe(
      model.tokenizer.decode(after?.ids ?? []),
    );
  });

  it('needs a template', async () => {
    await expect(generateText(await load({}), messages, { executor })).rejects.toThrow(UnsupportedError);
  });
});
