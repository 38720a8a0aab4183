// A route handler of Next.js: app/api/classify/route.ts
import { PeftError, pipeline, type TextClassifier } from 'peftjs';

let classifier: Promise<TextClassifier> | undefined; // opened at the first request, not by a build

function opened(): Promise<TextClassifier> {
  classifier ??= pipeline('text-classification', './my-adapter').catch((error: unknown) => {
    classifier = undefined; // the next request tries again
    throw error;
  });
  return classifier;
}

export async function POST(request: Request): Promise<Response> {
  const text = await request.text();
  if (text.length > 65_536) return new Response('The text is too long.', { status: 413 }); // tokenising blocks others
  const classify = await opened();
  try {
    return Response.json(await classify(text));
  } catch (error) {
    if (error instanceof PeftError) return Response.json({ error: error.message }, { status: 400 });
    throw error;
  }
}
