"""The words of the pages in several languages: one mapping, which the option `html` may add to."""

from __future__ import annotations

import re
from collections.abc import Mapping

from raincheck.errors import ConfigurationError
from raincheck.http.messages import Request

Texts = Mapping[str, str]

RIGHT_TO_LEFT = frozenset({"ar", "dv", "fa", "he", "ps", "ur", "yi"})
FALLBACK = "en"

TEXTS: Mapping[str, Texts] = {
    "en": {
        "working": "Working on it",
        "cancelling": "Cancelling",
        "since": "Started at {time}, {elapsed} ago",
        "left": "About {duration} left",
        "of": "{completed} of {total}",
        "stay": "The result appears here as soon as it is ready. You may leave and come back.",
        "cancel": "Cancel",
        "back": "Go back",
        "lost": "The connection is lost. Trying again.",
        "finished": "Finished",
        "file": "The download begins. If it does not:",
        "download": "Download the file",
        "nothing": "It is done. There is nothing to show.",
        "not-found": "Not found",
        "not-found-detail": "Nothing is here for you. The address may be wrong, or you may have "
        "to sign in as the person who began this.",
        "gone": "No longer here",
        "gone-detail": "The result was kept for a time that is over.",
        "canceled": "Cancelled",
        "canceled-detail": "This was cancelled. There is no result.",
        "failed": "That did not work",
        "busy": "Too busy just now",
        "busy-detail": "Please try again in {duration}.",
        "forbidden": "Not allowed",
        "forbidden-detail": "This button does not belong to what you see here. Go back, and try "
        "again from there.",
        "wrong": "Something is wrong",
    },
    "de": {
        "working": "In Arbeit",
        "cancelling": "Wird abgebrochen",
        "since": "Begonnen um {time}, vor {elapsed}",
        "left": "Noch etwa {duration}",
        "of": "{completed} von {total}",
        "stay": "Das Ergebnis erscheint hier, sobald es da ist. Sie können die Seite verlassen und "
        "wiederkommen.",
        "cancel": "Abbrechen",
        "back": "Zurück",
        "lost": "Die Verbindung ist unterbrochen. Neuer Versuch.",
        "finished": "Fertig",
        "file": "Das Herunterladen beginnt. Falls nicht:",
        "download": "Datei herunterladen",
        "nothing": "Erledigt. Es gibt nichts anzuzeigen.",
        "not-found": "Nicht gefunden",
        "not-found-detail": "Hier ist nichts für Sie. Vielleicht stimmt die Adresse nicht, oder "
        "Sie müssen sich als die Person anmelden, die dies begonnen hat.",
        "gone": "Nicht mehr da",
        "gone-detail": "Die Zeit, für die das Ergebnis aufgehoben wurde, ist vorbei.",
        "canceled": "Abgebrochen",
        "canceled-detail": "Dies wurde abgebrochen. Es gibt kein Ergebnis.",
        "failed": "Das hat nicht geklappt",
        "busy": "Im Augenblick zu viel los",
        "busy-detail": "Bitte versuchen Sie es in {duration} noch einmal.",
        "forbidden": "Nicht erlaubt",
        "forbidden-detail": "Dieser Knopf gehört nicht zu dem, was Sie hier sehen. Gehen Sie "
        "zurück und versuchen Sie es von dort noch einmal.",
        "wrong": "Etwas stimmt nicht",
    },
    "fr": {
        "working": "Traitement en cours",
        "cancelling": "Annulation en cours",
        "since": "Commencé à {time}, il y a {elapsed}",
        "left": "Encore {duration} environ",
        "of": "{completed} sur {total}",
        "stay": "Le résultat apparaîtra ici dès qu'il sera prêt. Vous pouvez quitter cette page et "
        "y revenir.",
        "cancel": "Annuler",
        "back": "Retour",
        "lost": "La connexion est perdue. Nouvel essai.",
        "finished": "Terminé",
        "file": "Le téléchargement commence. Sinon :",
        "download": "Télécharger le fichier",
        "nothing": "C'est fait. Il n'y a rien à afficher.",
        "not-found": "Introuvable",
        "not-found-detail": "Il n'y a rien ici pour vous. L'adresse est peut-être fausse, ou vous "
        "devez vous connecter comme la personne qui a commencé ceci.",
        "gone": "N'est plus disponible",
        "gone-detail": "Le délai de conservation du résultat est passé.",
        "canceled": "Annulé",
        "canceled-detail": "Ceci a été annulé. Il n'y a pas de résultat.",
        "failed": "Cela n'a pas marché",
        "busy": "Trop de demandes en ce moment",
        "busy-detail": "Veuillez réessayer dans {duration}.",
        "forbidden": "Non autorisé",
        "forbidden-detail": "Ce bouton ne correspond pas à ce que vous voyez ici. Revenez en "
        "arrière et réessayez.",
        "wrong": "Quelque chose ne va pas",
    },
    "es": {
        "working": "En proceso",
        "cancelling": "Cancelando",
        "since": "Comenzó a las {time}, hace {elapsed}",
        "left": "Faltan unos {duration}",
        "of": "{completed} de {total}",
        "stay": "El resultado aparecerá aquí en cuanto esté listo. Puede salir y volver.",
        "cancel": "Cancelar",
        "back": "Volver",
        "lost": "Se perdió la conexión. Intentando de nuevo.",
        "finished": "Terminado",
        "file": "La descarga comienza. Si no:",
        "download": "Descargar el archivo",
        "nothing": "Hecho. No hay nada que mostrar.",
        "not-found": "No encontrado",
        "not-found-detail": "Aquí no hay nada para usted. Quizá la dirección no es correcta, o "
        "debe iniciar sesión como la persona que comenzó esto.",
        "gone": "Ya no está aquí",
        "gone-detail": "El plazo para guardar el resultado ha terminado.",
        "canceled": "Cancelado",
        "canceled-detail": "Esto fue cancelado. No hay resultado.",
        "failed": "No funcionó",
        "busy": "Demasiada carga en este momento",
        "busy-detail": "Vuelva a intentarlo en {duration}.",
        "forbidden": "No permitido",
        "forbidden-detail": "Este botón no corresponde a lo que ve aquí. Vuelva atrás e inténtelo "
        "de nuevo.",
        "wrong": "Algo va mal",
    },
    "ar": {
        "working": "جارٍ العمل",
        "cancelling": "جارٍ الإلغاء",
        "since": "بدأ في {time}، قبل {elapsed}",
        "left": "بقي نحو {duration}",
        "of": "{completed} من {total}",
        "stay": "ستظهر النتيجة هنا فور جاهزيتها. يمكنك مغادرة الصفحة والعودة إليها.",
        "cancel": "إلغاء",
        "back": "رجوع",
        "lost": "انقطع الاتصال. تجري المحاولة من جديد.",
        "finished": "انتهى",
        "file": "يبدأ التنزيل الآن. إن لم يبدأ:",
        "download": "تنزيل الملف",
        "nothing": "تم. لا يوجد ما يُعرض.",
        "not-found": "غير موجود",
        "not-found-detail": "لا يوجد شيء لك هنا. قد يكون العنوان خاطئًا، أو عليك تسجيل الدخول "
        "بحساب من بدأ هذا.",
        "gone": "لم يعد متاحًا",
        "gone-detail": "انتهت مدة الاحتفاظ بالنتيجة.",
        "canceled": "أُلغي",
        "canceled-detail": "أُلغيت العملية. لا توجد نتيجة.",
        "failed": "لم ينجح ذلك",
        "busy": "ضغط كبير الآن",
        "busy-detail": "يرجى المحاولة مجددًا بعد {duration}.",
        "forbidden": "غير مسموح",
        "forbidden-detail": "هذا الزر لا يخص ما تراه هنا. عُد وحاول من جديد.",
        "wrong": "حدث خطأ ما",
    },
}

_MOST_LANGUAGES = 16  # that are looked at in `Accept-Language`
_TAG = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*+")


def language_of(accept_language: bytes | None, known: Mapping[str, Texts]) -> str:
    """Choose a language that is known and preferred (RFC 9110 §12.5.4, RFC 4647 §3.4)."""
    ranked = sorted(_ranges(accept_language or b""), key=lambda found: -found[0])
    for weight, tag in ranked:
        if not weight:
            continue
        while tag and tag not in known:
            tag = tag.rpartition("-")[0]
        if tag:
            return tag
    return FALLBACK


def spoken(request: Request, known: Mapping[str, Texts]) -> tuple[Texts, str]:
    """Return the texts in the language that a client prefers, and which that is."""
    language = language_of(request.header(b"accept-language"), known)
    return known[language], language


def _ranges(value: bytes) -> list[tuple[float, str]]:
    members = value[:1024].decode("latin-1").split(",")[:_MOST_LANGUAGES]
    split = [[part.strip() for part in member.split(";")] for member in members]
    return [(_weight(rest), tag.lower()) for tag, *rest in split if _TAG.fullmatch(tag)]


def _weight(parameters: list[str]) -> float:
    value = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    return float(value) if re.fullmatch(r"[01](\.\d{0,3})?", value) else 1.0


def with_texts(more: Mapping[str, Texts]) -> Mapping[str, Texts]:
    """Return all languages, with what is added; what a new one does not say is English.

    Raises:
        ConfigurationError: There is no such text, or it has a placeholder that is never filled.
    """
    for language, texts in more.items():
        for name, text in texts.items():
            _check(language, name, text)
    added = {
        language.lower(): {**TEXTS[FALLBACK], **TEXTS.get(language.lower(), {}), **texts}
        for language, texts in more.items()
    }
    return {**TEXTS, **added}


def _check(language: str, name: str, text: str) -> None:
    if name not in TEXTS[FALLBACK]:
        known = ", ".join(TEXTS[FALLBACK])
        raise ConfigurationError(f"html[{language!r}] has no text {name!r}; there are {known}")
    known_names = dict.fromkeys(_PLACEHOLDER.findall(TEXTS[FALLBACK][name]), "")
    try:
        text.format(**known_names)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ConfigurationError(
            f"html[{language!r}][{name!r}] may have {sorted(known_names) or 'no placeholder'} in "
            f"braces, and no other: {text!r}"
        ) from None


_PLACEHOLDER = re.compile(r"{(\w+)}")


def duration(seconds: float) -> str:
    """Write a duration in the two largest units; they are symbols that no language translates."""
    left = max(1, round(seconds))
    if left < 60:
        return f"{left} s"
    if left < 3600:
        return f"{left // 60} min" + (f" {left % 60} s" if left < 600 and left % 60 else "")
    if left < 86_400:
        return f"{left // 3600} h" + (f" {left % 3600 // 60} min" if left % 3600 >= 60 else "")
    return f"{left // 86_400} d"
