/**
 * The tokenizers of SentencePiece (Kudo and Richardson, 2018) in a GGUF file, of the kind that merges pairs. Such a file
 * has no merges: of all neighbours that form a piece, those of the piece with the highest score merge first. A
 * tokenizer.json lists every way to form each piece, from the highest score to the lowest.
 */
import { fileError } from '../json.js';
import { totalLength } from '../tokenizer/growth.js';
import { metadataValue, type WithMetadata } from './config.js';
import { TOKEN, type TokenizerParts, type Vocabulary } from './vocabulary.js';

/** What SentencePiece writes for a blank. */
const BLANK = '\u2581';

/** Returns the parts of a tokenizer of SentencePiece. @throws CheckpointError for missing scores and too many pieces. */
export function sentencePieceParts(file: WithMetadata, vocabulary: Vocabulary): TokenizerParts {
  const { tokens, kinds, special, ids } = vocabulary;
  const addsBlank = metadataValue(file, 'tokenizer.ggml.add_space_prefix') !== false;
  const blanks = { type: 'Replace', pattern: { String: ' ' }, content: BLANK };
  const before = { type: 'Prepend', prepend: BLANK };
  const decoders = [
    { type: 'Replace', pattern: { String: BLANK }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
    ...(addsBlank ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
  ];
  return {
    normalizer: addsBlank ? { type: 'Sequence', normalizers: [before, blanks] } : blanks,
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: 'Sequence', decoders },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: special['unk_token'] ?? tokens.find((_, id) => kinds[id] === TOKEN.unknown) ?? null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: ids,
      merges: mergesOf(rankedPieces(file, vocabulary), vocabulary.path),
    },
    begins: true,
    strips: (token) => metadataValue(file, 'general.architecture') === 'phi3' && !UNSTRIPPED.includes(token),
  };
}

/** The added tokens of Phi-3 that keep the blanks to their right, which no file states: llama.cpp knows them as well. */
const UNSTRIPPED: readonly string[] = ['<unk>', '<s>', '<|endoftext|>'];

/** The kinds of tokens that no text is merged to. */
const WHOLE: readonly unknown[] = Object.values(TOKEN).filter((kind) => kind !== TOKEN.normal);

/** Returns the pieces from the highest score to the lowest. Those with the same score keep their order. */
function rankedPieces(file: WithMetadata, { tokens, kinds, path }: Vocabulary): readonly string[] {
  const scores = scoresOf(file, tokens.length, path);
  const ids = [...tokens.keys()].filter((id) => !WHOLE.includes(kinds[id]));
  return ids.sort((a, b) => (scores[b] as number) - (scores[a] as number)).map((id) => tokens[id] as string);
}

function scoresOf(file: WithMetadata, count: number, path: string): Float32Array | Int32Array {
  const entry = file.metadata.get('tokenizer.ggml.scores');
  const isList = entry?.type === 'array' && (entry.of === 'float32' || entry.of === 'int32');
  if (isList && entry.value.length === count && !entry.value.includes(NaN)) return entry.value;
  throw fileError(path, `'tokenizer.ggml.scores' must be a list of ${count} numbers, one for each token`);
}

/** The maximum length of a piece, 16 times that of SentencePiece's trainer unless it is told otherwise. */
const MAX_PIECE = 256;
/** The maximum length of all pieces together: of 262,144 as in Gemma 3, with 16 characters each. */
const MAX_CHARACTERS = 2 ** 22;

/** Returns the pairs that form each piece. @throws CheckpointError when there are too many, or too long ones. */
function mergesOf(pieces: readonly string[], path: string): (readonly [string, string])[] {
  const longest = pieces.reduce((most, { length }) => Math.max(most, length), 0);
  const all = totalLength(pieces);
  if (longest > MAX_PIECE || all > MAX_CHARACTERS) {
    throw fileError(
      path,
      `the vocabulary has pieces of up to ${longest} characters, ${all} in all, more than any known model; at most ${MAX_PIECE} and ${MAX_CHARACTERS} are read`,
    );
  }
  const known = new Set(pieces);
  const merges: (readonly [string, string])[] = [];
  for (const piece of pieces) {
    for (let at = piece.length - 1; at > 0; at--) {
      const [left, right] = [piece.slice(0, at), piece.slice(at)];
      if (known.has(left) && known.has(right)) merges.push([left, right]);
    }
  }
  return merges;
}
