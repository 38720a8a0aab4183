/** The tokenizer's files of transformers for the metadata of a GGUF file. */
import { fileError, shown } from '../json.js';
import { byteLevelParts } from './byte-level.js';
import { metadataValue, type WithMetadata } from './config.js';
import { sentencePieceParts } from './sentencepiece.js';
import { TOKEN, vocabularyOf, type TokenizerParts, type Vocabulary } from './vocabulary.js';

/** By `tokenizer.ggml.model`. */
const KINDS: Readonly<Record<string, (file: WithMetadata, vocabulary: Vocabulary) => TokenizerParts>> = {
  gpt2: byteLevelParts,
  llama: sentencePieceParts,
};

/**
 * Returns tokenizer.json and tokenizer_config.json.
 * @throws CheckpointError for a kind of tokenizer, or a pattern, that is not known.
 */
export function tokenizerFilesOf(file: WithMetadata, path: string): Record<string, unknown> {
  const model = metadataValue(file, 'tokenizer.ggml.model');
  const partsOf = typeof model === 'string' && Object.hasOwn(KINDS, model) ? KINDS[model] : undefined;
  if (!partsOf) {
    throw fileError(
      path,
      `'tokenizer.ggml.model' is ${shown(model)}; known ones are ${Object.keys(KINDS).join(', ')}; load the model's folder of transformers instead`,
    );
  }
  const vocabulary = vocabularyOf(file, path);
  const { begins, strips = () => false, ...parts } = partsOf(file, vocabulary);
  const { special } = vocabulary;
  const adds = (name: string, otherwise: boolean): string[] => {
    const isOn = metadataValue(file, `tokenizer.ggml.add_${name}_token`) ?? otherwise;
    const token = special[`${name}_token`];
    return isOn === true && token !== undefined ? [token] : [];
  };
  const [own, forTools] = ['', '.tool_use'].map((name) => metadataValue(file, `tokenizer.chat_template${name}`));
  const [before, after] = [adds('bos', begins), adds('eos', false)];
  return {
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: addedTokens(vocabulary, strips),
      ...parts,
      ...(before.length + after.length > 0 && { post_processor: template(before, after, vocabulary) }),
    },
    'tokenizer_config.json': {
      ...special,
      model_input_names: ['input_ids', 'attention_mask'],
      chat_template:
        forTools === undefined
          ? own
          : [
              { name: 'default', template: own },
              { name: 'tool_use', template: forTools },
            ],
    },
  };
}

/** Returns the tokens that are found in a text before it is cut into words. */
function addedTokens({ tokens, kinds }: Vocabulary, strips: (token: string) => boolean): object[] {
  return tokens.flatMap((content, id) => {
    const special = kinds[id] === TOKEN.control || kinds[id] === TOKEN.unknown;
    if (!special && kinds[id] !== TOKEN.userDefined) return [];
    const rstrip = strips(content);
    return [{ id, content, special, single_word: false, lstrip: false, rstrip, normalized: false }];
  });
}

/** Returns the step that puts tokens before and after each text. */
function template(before: readonly string[], after: readonly string[], { ids }: Vocabulary): object {
  const sequence = (id: string, type: number): object[] => {
    const special = (token: string): object => ({ SpecialToken: { id: token, type_id: type } });
    return [...before.map(special), { Sequence: { id, type_id: type } }, ...after.map(special)];
  };
  const tokens = [...new Set([...before, ...after])];
  return {
    type: 'TemplateProcessing',
    single: sequence('A', 0),
    pair: [...sequence('A', 0), ...sequence('B', 1)],
    special_tokens: Object.fromEntries(
      tokens.map((token) => [token, { id: token, ids: [ids[token] ?? null], tokens: [token] }]),
    ),
  };
}
