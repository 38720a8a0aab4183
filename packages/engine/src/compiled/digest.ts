/**
 * A 128-bit hash of texts and memory, in four lanes of 32 bits mixed as in MurmurHash3 (Appleby, 2008). It
 * distinguishes the programs of one process; it is not cryptographic.
 */
export class Digest {
  #lanes: [number, number, number, number] = [0x9e3779b9, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f];
  #length = 0;

  text(text: string): this {
    return this.bytes(encoder.encode(text));
  }

  bytes({ buffer, byteOffset, byteLength }: ArrayBufferView): this {
    const whole = byteLength >>> 2;
    if (byteOffset % 4 === 0) {
      const words = new Uint32Array(buffer, byteOffset, whole);
      this.#add(words);
    } else {
      this.#add(new Uint32Array(buffer.slice(byteOffset, byteOffset + 4 * whole)));
    }
    const rest = new Uint8Array(4);
    rest.set(new Uint8Array(buffer, byteOffset + 4 * whole, byteLength % 4));
    const view = new DataView(rest.buffer);
    this.#add(Uint32Array.of(view.getUint32(0), byteLength));
    return this;
  }

  /** The hash as 32 hexadecimal digits. */
  value(): string {
    let [a, b, c, d] = this.#lanes.map((lane) => finished(lane ^ this.#length)) as [number, number, number, number];
    a = (a + b + c + d) >>> 0;
    [b, c, d] = [(b + a) >>> 0, (c + a) >>> 0, (d + a) >>> 0];
    return [a, b, c, d].map((lane) => lane.toString(16).padStart(8, '0')).join('');
  }

  #add(words: Uint32Array): void {
    let [a, b, c, d] = this.#lanes;
    for (let at = 0; at < words.length; at++) {
      const word = words[at] as number;
      // Every lane mixes in every word, with its own multipliers, and the state of the next lane.
      a = Math.imul(rotated(a ^ Math.imul(word, 0x239b961b), 15) + b, 5) + 0x561ccd1b;
      b = Math.imul(rotated(b ^ Math.imul(word, 0xab0e9789 | 0), 17) + c, 5) + 0x0bcaa747;
      c = Math.imul(rotated(c ^ Math.imul(word, 0x38b34ae5), 13) + d, 5) + 0x96cd1c35;
      d = Math.imul(rotated(d ^ Math.imul(word, 0xa1e38b93 | 0), 19) + a, 5) + 0x32ac3b17;
    }
    this.#lanes = [a | 0, b | 0, c | 0, d | 0];
    this.#length += words.length;
  }
}

const encoder = new TextEncoder();

function rotated(x: number, by: number): number {
  return (x << by) | (x >>> (32 - by));
}

/** MurmurHash3's final mix of 32 bits. */
function finished(x: number): number {
  let h = x;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
