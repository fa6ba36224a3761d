#include "server.h"

void server_begin(struct server *server, const struct server_board *board)
{
    slots_begin(&server->slots, board->slots, board->key, board->running);
    (void)settings_begin(&server->settings, board->settings); /* unreadable is locked, and identify says so */
    server->groups[0] = os_group(&server->os);
    server->groups[1] = image_group(&server->image, &server->slots);
    server->groups[2] =
        enroll_group(&server->enroll, &server->settings, &server->slots, board->tpm, board->version, board->mac);
    frame_begin(&server->reader, server->request, sizeof server->request);
    server->put = board->put;
    server->console = board->console;
}

bool server_take(struct server *server, uint8_t byte)
{
    if (frame_take(&server->reader, byte) != FRAME_PACKET) {
        return false;
    }
    size_t length;
    const uint8_t *request = frame_packet(&server->reader, &length);
    const size_t answered =
        smp_answer(server->groups, SERVER_GROUPS, request, length, server->answer, sizeof server->answer);

    if (answered > 0) {
        frame_write(server->answer, answered, server->put, server->console);
    }
    return server->os.reset;
}
